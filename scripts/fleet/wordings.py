"""How other manufacturers word the same faults, and what they log as errors without a fault.

There are two separate sets. The rules may be improved with the help of `KNOWN`. `UNSEEN` is only
for measuring.
"""

from dataclasses import dataclass

from fleet.catalogue import Line


def _line(text: str) -> Line:
    """Parse `LEVEL process: text`; the fleet's plan sets the code and the count."""
    level, process, words = text.split(" ", 2)
    return Line("FATAL" if level == "FATAL" else "ERROR", process.rstrip(":"), "", words, 0)


def _dialects(*dialects: tuple[str, ...]) -> tuple[tuple[Line, ...], ...]:
    return tuple(tuple(map(_line, lines)) for lines in dialects)


@dataclass(frozen=True)
class Wordings:
    """`faults`: rule key -> wordings of that fault; `harmless`: errors that are not a fault."""

    faults: dict[str, tuple[tuple[Line, ...], ...]]
    harmless: tuple[Line, ...]


KNOWN = Wordings(
    faults={
        "power": _dialects(
            (
                "FATAL pmic: VSYS dropped to 6.{n} V, PMIC forced reset",
                "ERROR pmic: input rail below minimum for {n}00 ms",
            ),
            (
                "ERROR bms: 12V aux battery state of charge {n} percent, load shedding active",
                "ERROR bms: cranking voltage 5.{n} V under threshold",
            ),
            ("ERROR body: KL30 undervoltage detected, 8.{n} V",),
            ("FATAL powerd: Battery is critically low ({n} %), shutting down",),
        ),
        "ota_failure": _dialects(
            (
                "ERROR rauc: Installation error: Failed to verify signature of bundle",
                "FATAL rauc: Marking slot rootfs.1 as bad, falling back to rootfs.0",
            ),
            (
                "ERROR swupdate: Image invalid or corrupted. Not installing ...",
                "ERROR swupdate: SWUPDATE failed [{n}] install_single_image",
            ),
            (
                "ERROR mender: Installation failed: payload checksum does not match",
                "FATAL mender: reboot into new artifact failed, reverting",
            ),
            (
                "ERROR uds: flash programming of ECU 0x{n}A aborted, NRC 0x72",
                "ERROR uds: dependency check of software part rejected",
            ),
        ),
        "bus": _dialects(
            (
                "ERROR kernel: mttcan c310000.mttcan can0: entered bus off state",
                "ERROR kernel: mttcan c310000.mttcan can0: entered error passive state",
            ),
            (
                "ERROR flexcan: can1: TX error counter {n}28, controller stopped",
                "FATAL flexcan: can1: restart after bus-off",
            ),
            (
                "ERROR comm: lost communication with ECM on HS-CAN",
                "ERROR comm: node 0x{n}1 does not acknowledge frames",
            ),
            ("ERROR nm: CAN network timeout of message 0x3{n}0",),
        ),
        "storage": _dialects(
            (
                "ERROR kernel: EXT4-fs error (device mmcblk0p{n}): ext4_find_entry: lblock 0",
                "FATAL kernel: EXT4-fs (mmcblk0p{n}): Remounting filesystem read-only",
            ),
            ("ERROR journald: Failed to write entry ({n} items): No space left on device",),
            (
                "ERROR mmc: mmc0: Card stuck in programming state, {n} retries",
                "ERROR kernel: blk_update_request: I/O error, dev mmcblk0, sector {n}4096",
            ),
            ("ERROR recorder: cannot append to trip file: volume /var is 100% used",),
        ),
        "positioning": _dialects(
            ("ERROR gpsd: GPS receiver lost satellite lock for {n} s",),
            (
                "ERROR ublox: antenna status OPEN, no signal",
                "ERROR ublox: time to first fix exceeded {n}00 s",
            ),
            (
                "ERROR ekf2: GPS quality poor, stopped aiding",
                "FATAL ekf2: horizontal position estimate not valid",
            ),
            ("ERROR loc: location unavailable, {n} satellites used",),
        ),
        "watchdog": _dialects(
            (
                "FATAL systemd: telemetry.service: Watchdog timeout (limit 30s)!",
                "ERROR systemd: telemetry.service: Main process exited, code=killed, status=6/ABRT",
            ),
            (
                "FATAL kernel: Kernel panic - not syncing: Fatal exception in interrupt",
                "ERROR kernel: Unable to handle kernel NULL pointer dereference at 00000{n}",
            ),
            (
                "ERROR init: process planner died with signal 11",
                "ERROR init: planner restarted {n} times in 60 s",
            ),
            ("ERROR rtos: task COMM missed its deadline, system reset by WDG",),
        ),
        "thermal": _dialects(
            (
                "ERROR thermald: CPU die 10{n} C above trip point, shutting down cores",
                "FATAL kernel: thermal thermal_zone0: critical temperature reached, shutting down",
            ),
            (
                "ERROR ecm: engine coolant overheating, 12{n} C",
                "ERROR ecm: radiator fan does not start",
            ),
            ("ERROR inverter: IGBT junction too hot: 15{n} C, torque derated",),
            ("ERROR bms: cell {n} temperature out of limits, charging stopped",),
        ),
        "authentication": _dialects(
            (
                "ERROR mqtt: Connection Refused: not authorised",
                "ERROR mqtt: certificate verify failed: certificate has expired",
            ),
            (
                "ERROR curl: SSL certificate problem: unable to get local issuer certificate",
                "ERROR ota: HTTP 403 from backend",
            ),
            ("ERROR uds: securityAccess denied, NRC 0x35 invalid key",),
            ("ERROR sshd: Failed password for root from 10.0.0.{n}",),
        ),
        "memory": _dialects(
            (
                "ERROR kernel: Out of memory: Killed process {n}12 (mapd) total-vm:512000kB",
                "ERROR kernel: mapd invoked oom-killer: gfp_mask=0x{n}00cca",
            ),
            (
                "ERROR perception: std::bad_alloc while growing point cloud",
                "FATAL perception: terminate called, cannot allocate {n} MB",
            ),
            ("ERROR jvm: java.lang.OutOfMemoryError: Java heap space",),
            (
                "ERROR rtos: heap exhausted in task NAV, {n} bytes wanted",
                "ERROR rtos: pvPortMalloc returned NULL",
            ),
        ),
        "network": _dialects(
            ("ERROR mqtt: broker unreachable, attempt {n}",),
            ("ERROR ModemManager: modem disconnected: network lost",),
            (
                "ERROR wwan0: link is not ready",
                "ERROR dhclient: No DHCPOFFERS received",
            ),
            (
                "ERROR sync: Temporary failure in name resolution",
                "ERROR http: upload of trip {n} gave up: 504 Gateway Time-out",
            ),
        ),
        "sensor_range": _dialects(
            ("ERROR abs: wheel speed sensor RL implausible",),
            ("ERROR imu: accelerometer {n} stale, voted out",),
            ("ERROR camera: sensor returned frame {n} with a wrong checksum",),
            ("ERROR px4: Preflight Fail: Accel sensors inconsistent - check calibration",),
        ),
    },
    harmless=_dialects(
        (
            "ERROR supervisor: watchdog armed with 60 s",
            "ERROR ota-agent: certificate store loaded: 3 trusted, 0 expired",
            "ERROR supervisor: memory limits applied: soft 40{n} MB",
            "ERROR thermal: temperature limits loaded",
            "ERROR supervisor: crash handler installed",
            "ERROR ota-agent: update window closed, nothing to install",
            "ERROR canmgr: no error frames on can0 for {n} h",
            "ERROR logd: storage check finished: 0 errors",
            "ERROR modem: CONNECTION_TIMEOUT to broker, will retry",
            "ERROR navd: GNSS lost in tunnel {n}",
            "ERROR ui: consent missing, profile sync skipped",
            "ERROR ui: unknown key tile.ttl ignored",
            "ERROR speech: cannot parse locale xx_{n}",
        )
    )[0],
)

UNSEEN = Wordings(
    faults={
        "power": _dialects(
            (
                "FATAL lvd: LVD tripped: supply dipped to 5.{n} V",
                "ERROR dcdc: DC/DC converter output collapsed, 12 V rail at 7.{n} V",
            ),
            ("ERROR kernel: hwmon hwmon1: Undervoltage detected!",),
            ("ERROR charger: battery voltage too low: 10.{n} V, precharge refused",),
        ),
        "ota_failure": _dialects(
            (
                "ERROR aktualizr: Target hash verification failed for release {n}",
                "ERROR aktualizr: Got error while installing package, restoring previous version",
            ),
            (
                "ERROR update_engine: ErrorCode::kDownloadPayloadVerificationError ({n})",
                "ERROR update_engine: Update attempt failed, resetting slot to bootable A",
            ),
            ("FATAL bootloader: verified boot: image {n} not authentic, starting recovery slot",),
        ),
        "bus": _dialects(
            (
                "ERROR peakcan: pcan_usb: bus heavy, {n}6 bit-stuffing errors",
                "FATAL peakcan: pcan_usb: controller left the bus",
            ),
            (
                "ERROR autosar: CanSM_E_BUS_OFF on network {n}",
                "ERROR autosar: CanIf: transmit confirmation missing, mailbox {n}",
            ),
            ("ERROR gateway: no frames from BCM for {n} s on body CAN",),
        ),
        "storage": _dialects(
            ("ERROR kernel: ubi0 error: ubi_io_write: error -5 while writing {n}12 bytes to PEB",),
            ("ERROR sqlite: database or disk is full while storing trip {n}",),
            (
                "ERROR kernel: Buffer I/O error on dev sda{n}, lost async page write",
                "ERROR smartd: Device: eMMC, life time estimation exceeded 90 percent",
            ),
        ),
        "positioning": _dialects(
            (
                "ERROR gnss: jamming indicator {n}50, position degraded",
                "ERROR gnss: spoofing suspected, solution discarded",
            ),
            ("ERROR nav: GPS signal lost for {n} s in open sky",),
            ("ERROR rtk: RTK float only, corrections stale {n}0 s",),
        ),
        "watchdog": _dialects(
            (
                "ERROR kernel: watchdog: BUG: soft lockup - CPU#{n} stuck for 23s!",
                "ERROR kernel: rcu: rcu_sched detected stalls on CPUs",
            ),
            ("ERROR libc: Fatal signal 6 (SIGABRT), code -1 in tid 3{n}1",),
            (
                "FATAL cm7: HardFault_Handler: CFSR=0x0000{n}200",
                "ERROR boot: reset reason: watchdog",
            ),
        ),
        "thermal": _dialects(
            ("ERROR bms: pack over 6{n} degC, contactor opened",),
            ("ERROR kernel: CPU{n}: Core temperature above threshold, cpu clock throttled",),
            ("ERROR motor: stator winding overheated: 17{n} C",),
        ),
        "authentication": _dialects(
            (
                "ERROR openssl: tlsv1 alert certificate revoked",
                "ERROR ota: device identity not accepted by server",
            ),
            ("ERROR wpa: EAP-TLS: peer certificate not yet valid, clock is {n} days behind",),
            ("ERROR oauth: token refresh rejected: invalid_grant",),
        ),
        "memory": _dialects(
            ("ERROR kernel: page allocation failure: order:{n}, mode:0x10c0d0",),
            ("ERROR lmkd: low memory killer ended com.vendor.maps, {n} MB free",),
            ("ERROR planner: mmap failed: ENOMEM, arena of {n} MB",),
        ),
        "network": _dialects(
            ("ERROR grpc: UNAVAILABLE: failed to connect to all addresses",),
            (
                "ERROR telem: socket closed by peer, {n} messages queued",
                "ERROR lte: PDP context deactivated, no service for {n} s",
            ),
            ("ERROR ws: websocket handshake aborted: i/o timeout",),
        ),
        "sensor_range": _dialects(
            ("ERROR radar: front radar blind, {n} cycles",),
            ("ERROR ads: steering angle sensor not plausible against yaw rate",),
            ("ERROR i2c: i2c-{n}: sensor 0x68 does not answer",),
        ),
    },
    harmless=_dialects(
        (
            "ERROR bms: battery report: voltage 12.{n} V, state ok",
            "ERROR boot: last shutdown was clean, no panic record",
            "ERROR navd: gps almanac refreshed, 0 satellites lost",
            "ERROR ota-agent: signature check passed for image {n}",
            "ERROR thermal: thermal self-test passed",
            "ERROR supervisor: out of memory handler registered",
            "ERROR mqtt: connection to broker restored after {n} s",
            "ERROR ui: theme {n} has no night palette",
            "ERROR media: album art missing for {n} tracks",
            "ERROR http: upload timed out once, resumed",
        )
    )[0],
)
