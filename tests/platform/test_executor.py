"""The process executor runs functions as AWS Lambda does."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import (
    PROBE,
    Deploy,
    Function,
    Platform,
    alive,
    state_of,
    wait_until,
    wait_until_usable,
    zipped,
)

LAMBDA_VARIABLES = {
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "HOME",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "LANG",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "TMPDIR",
    "TZ",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
}


def test_environment_holds_what_lambda_gives_and_nothing_of_the_parent(deploy: Deploy) -> None:
    see = deploy("probe.see", Environment={"Variables": {"OUR_SETTING": "yes"}})
    environ = see().payload["environ"]
    # Python itself sets LC_CTYPE where the system has not installed Lambda's locale.
    assert set(environ) - {"LC_CTYPE"} == LAMBDA_VARIABLES | {"OUR_SETTING"}
    assert environ["OUR_SETTING"] == "yes"
    assert environ["_X_AMZN_TRACE_ID"].startswith("Root=")
    assert environ["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"


def test_import_path_is_code_layers_lambda_runtime_and_standard_library(deploy: Deploy) -> None:
    seen = deploy("probe.see")().payload
    code, packages, opt, runtime, *rest = seen["path"]
    assert code == seen["environ"]["LAMBDA_TASK_ROOT"] == seen["cwd"]
    assert packages.endswith("/python/lib/python3.13/site-packages")
    assert opt.endswith("/python")
    assert runtime.endswith("/lambda-runtime")
    assert not [path for path in rest if "site-packages" in path]
    assert "site-packages" not in "".join(rest)


def test_dependency_missing_on_lambda_is_missing_here(deploy: Deploy) -> None:
    # psycopg is in the environment of these tests and of the developer.
    needy = deploy("needy.handle", {"needy.py": "import psycopg\n"})
    answer = needy()
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.ImportModuleError"
    message = "Unable to import module 'needy': No module named 'psycopg'"
    assert answer.payload["errorMessage"] == message


def test_boto3_is_there_without_a_layer(deploy: Deploy) -> None:
    code = "import boto3\ndef handle(event, context):\n    return boto3.__version__\n"
    assert deploy("modern.handle", {"modern.py": code})().error is None


def test_context_tells_deadline_and_names(deploy: Deploy) -> None:
    see = deploy("probe.see", Timeout=7)
    invoked = time.time()
    seen = see({"a": [1]}).payload
    assert seen["event"] == {"a": [1]}
    assert seen["arn"].endswith(f":function:{see.name}")
    before, remaining_ms, after = seen["clock"]
    assert invoked + 7 < after + remaining_ms / 1000 + 0.01
    assert before + remaining_ms / 1000 < time.time() + 7


def test_layers_merge_in_order(platform: Platform, deploy: Deploy) -> None:
    site = "python/lib/python3.13/site-packages"
    first = {
        "python/shared.py": "SAYS = 'first'",
        "python/common/one.py": "SAYS = 'one'",
        "bin/layered-tool": "#!/bin/sh\nprintf first",
    }
    second = {
        "python/shared.py": "SAYS = 'second'",
        "python/common/two.py": "SAYS = 'two'",
        f"{site}/unused.py": "",
        "bin/layered-tool": "#!/bin/sh\nprintf second",
    }
    client = platform.client("lambda")
    layers = [
        client.publish_layer_version(LayerName=name, Content={"ZipFile": zipped(files)})
        for name, files in {"first": first, "second": second}.items()
    ]
    client.close()
    function = deploy("probe.use_layers", Layers=[layer["LayerVersionArn"] for layer in layers])
    expected = {"shared": "second", "common.one": "one", "common.two": "two", "tool": "second"}
    assert function().payload == expected


def test_warm_environment_is_reused(deploy: Deploy) -> None:
    see = deploy("probe.see")
    first, second = see().payload, see().payload
    assert first["pid"] == second["pid"]
    assert (first["calls"], second["calls"]) == (1, 2)


def test_concurrent_invocations_get_environments_of_their_own(
    deploy: Deploy, tmp_path: Path
) -> None:
    linger = deploy("probe.linger", Timeout=60)
    with ThreadPoolExecutor() as pool:
        events = [{"pids": str(tmp_path), "company": 3 * 2, "seconds": 0}] * 3
        pids = {answer.payload for answer in pool.map(linger, events)}
    assert len(pids) == 3


def test_process_group_is_killed_at_the_timeout(deploy: Deploy, tmp_path: Path) -> None:
    linger = deploy("probe.linger", Timeout=4)
    answer = linger({"pids": str(tmp_path), "seconds": 30})
    request_id = answer.log.split("START RequestId: ")[1].split()[0]
    assert answer.error == "Unhandled"
    assert answer.payload == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 4.00 seconds",
    }
    assert f"{request_id} Task timed out after 4.00 seconds" in answer.log
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    wait_until(lambda: not any(alive(pid) for pid in pids), "the end of both")
    assert linger({"pids": str(tmp_path), "seconds": 0}).payload not in pids


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        ("absent.handle", "Runtime.ImportModuleError", "Unable to import module 'absent'"),
        ("probe.absent", "Runtime.HandlerNotFound", "Handler 'absent' missing on module 'probe'"),
        ("broken.handle", "ValueError", "broken at import"),
    ],
)
def test_init_error_is_reported(
    deploy: Deploy, handler: str, error_type: str, message: str
) -> None:
    broken = {"broken.py": "raise ValueError('broken at import')\n"}
    answer = deploy(handler, PROBE | broken)()
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == error_type
    assert message in answer.payload["errorMessage"]
    assert error_type in answer.log


def test_init_is_tried_again(deploy: Deploy, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    code = f"open({str(flag)!r})\ndef handle(event, context):\n    return 'healed'\n"
    function = deploy("fickle.handle", {"fickle.py": code})
    assert function().payload["errorType"] == "FileNotFoundError"
    flag.touch()
    assert function().payload == "healed"


def test_exception_of_the_handler_is_reported(deploy: Deploy) -> None:
    fail = deploy("probe.fail")
    answer = fail()
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "LookupError"
    assert answer.payload["errorMessage"] == "no such thing"
    assert "raise LookupError" in answer.payload["stackTrace"][0]
    assert "[ERROR] LookupError: no such thing" in answer.log


@pytest.mark.parametrize(
    ("handler", "event", "reason"),
    [
        ("probe.leave", {"status": 3}, "Runtime exited with error: exit status 3"),
        ("probe.leave", {"status": 0}, "Runtime exited without providing a reason"),
        (
            "probe.be_killed",
            {"signal": signal.SIGKILL},
            "Runtime exited with error: signal: killed",
        ),
    ],
)
def test_process_that_ends_is_reported_and_replaced(
    deploy: Deploy, handler: str, event: dict[str, Any], reason: str
) -> None:
    function = deploy(handler)
    for _ in range(2):
        answer = function(event)
        assert answer.payload["errorType"] == "Runtime.ExitError"
        assert answer.payload["errorMessage"].endswith(f" Error: {reason}")


def test_idle_process_that_died_is_replaced(deploy: Deploy) -> None:
    see = deploy("probe.see")
    first = see().payload["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not alive(first), "its end")
    assert see().payload["calls"] == 1


def test_response_over_the_limit_is_refused(deploy: Deploy) -> None:
    answer_much = deploy("probe.answer_much")
    assert len(answer_much({"bytes": 6 << 20}).payload) == 6 << 20
    answer = answer_much({"bytes": 7 << 20})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Function.ResponseSizeTooLarge"
    assert "(6291556 bytes)" in answer.payload["errorMessage"]
    assert answer_much({"bytes": 1}).payload == "x"


def test_request_over_the_limit_is_refused(deploy: Deploy) -> None:
    see = deploy("probe.see")
    with pytest.raises(ClientError) as caught:
        see("x" * (7 << 20))
    assert caught.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_log_is_in_the_tail_the_file_and_cloudwatch(platform: Platform, deploy: Deploy) -> None:
    see = deploy("probe.see")
    answer = see()
    request_id = answer.payload["request_id"]
    lines = answer.log.splitlines()
    assert lines[:5] == [
        "INIT_START Runtime Version: python:3.13",
        "probe imported",
        f"START RequestId: {request_id} Version: $LATEST",
        "to stdout",
        "to stderr",
    ]
    assert lines[5] == f"END RequestId: {request_id}"
    assert lines[6].startswith(f"REPORT RequestId: {request_id}\tDuration: ")
    assert "Init Duration: " in lines[6]
    assert "Init Duration: " not in see().log
    assert answer.log in (platform.state / "logs" / "lambda" / f"{see.name}.log").read_text()
    with closing(platform.client("logs")) as logs:
        wait_until(lambda: "to stderr\n" in _cloudwatch_messages(logs, see.name), "CloudWatch")


def _cloudwatch_messages(client: Any, function: str) -> list[str]:
    try:
        found = client.filter_log_events(logGroupName=f"/aws/lambda/{function}")
    except client.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in found["events"]]


def test_environment_is_frozen_between_invocations(deploy: Deploy) -> None:
    tick = deploy("probe.tick")
    pid = tick().payload
    for _ in range(2):
        wait_until(lambda: state_of(pid).startswith("T"), "the freeze")
        assert tick().payload == pid


def test_updated_code_replaces_warm_environments(platform: Platform, deploy: Deploy) -> None:
    see = deploy("probe.see")
    old = see().payload["pid"]
    changed = {"probe.py": "def see(event, context):\n    return 'changed'\n"}
    see.client.update_function_code(FunctionName=see.name, ZipFile=zipped(changed))
    wait_until_usable(see.client, see.name)
    assert see().payload == "changed"
    wait_until(lambda: not alive(old), "the end of the old environment")


class Messages:
    """A queue whose messages a function consumes one at a time."""

    def __init__(self, sqs: Any, function: Function, **attributes: str) -> None:
        self._sqs = sqs
        self._url = sqs.create_queue(QueueName=function.name, Attributes=attributes)["QueueUrl"]
        self._lambda = function.client
        self._mapping = function.client.create_event_source_mapping(
            FunctionName=function.name,
            EventSourceArn=f"arn:aws:sqs:us-east-1:000000000000:{function.name}",
            BatchSize=1,
        )["UUID"]

    def send(self, body: str) -> None:
        self._sqs.send_message(QueueUrl=self._url, MessageBody=body)

    def stop(self) -> None:
        self._lambda.delete_event_source_mapping(UUID=self._mapping)


@pytest.fixture
def consumed_by(platform: Platform) -> Iterator[Callable[..., Messages]]:
    """Create queues that functions consume until the end of the test."""
    made: list[Messages] = []
    with closing(platform.client("sqs")) as sqs:

        def consume(function: Function, **attributes: str) -> Messages:
            made.append(Messages(sqs, function, **attributes))
            return made[-1]

        yield consume
        for messages in made:
            messages.stop()


def test_queue_wakes_function_at_once_and_batches_run_side_by_side(
    deploy: Deploy, consumed_by: Callable[..., Messages], tmp_path: Path
) -> None:
    messages = consumed_by(deploy("probe.consume", Timeout=900), VisibilityTimeout="900")

    def begun(*names: str) -> list[float]:
        """Send messages that wait for each other. Returns when all have begun."""
        folder = tmp_path / names[0]
        folder.mkdir()
        for name in names:
            message = {"folder": str(folder), "name": name, "company": len(names)}
            messages.send(json.dumps(message))
        notes = [folder / name for name in names]
        wait_until(lambda: all(note.exists() for note in notes), f"{names} side by side")
        return [float(note.read_text()) for note in notes]

    begun("one", "another")

    def waited(number: int) -> float:
        time.sleep(1)  # the mapping finds the queue empty
        sent = time.time()
        return begun(str(number))[0] - sent

    # The machine may stop this process too, but not at each attempt.
    assert any(waited(number) < 0.5 for number in range(10))


def test_message_whose_function_was_killed_comes_back(
    deploy: Deploy, consumed_by: Callable[..., Messages], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    messages = consumed_by(deploy("probe.die_once", Timeout=2), VisibilityTimeout="2")
    messages.send(str(file))
    wait_until(lambda: file.exists() and file.read_text() == "done", "the second delivery")


def test_invoke_script_separates_log_and_result(platform: Platform, deploy: Deploy) -> None:
    see = deploy("probe.see")
    outcome = platform.run("invoke", see.name, "-", text='{"a": 1}')
    assert outcome.returncode == 0
    assert json.loads(outcome.stdout)["event"] == {"a": 1}
    assert "REPORT RequestId" in outcome.stderr


def test_invoke_script_fails_with_the_function(platform: Platform, deploy: Deploy) -> None:
    outcome = platform.run("invoke", deploy("probe.fail").name)
    assert outcome.returncode == 1
    assert json.loads(outcome.stdout)["errorType"] == "LookupError"


def test_invoke_script_explains_its_refusals(platform: Platform) -> None:
    unknown = platform.run("invoke", "Nobody")
    assert (unknown.returncode, "is not deployed" in unknown.stderr) == (1, True)
    malformed = platform.run("invoke", "Nobody", "-", text="{")
    assert (malformed.returncode, "is not JSON" in malformed.stderr) == (1, True)
