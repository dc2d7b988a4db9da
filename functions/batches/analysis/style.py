"""The common style of all charts: colours, type, safe text, and conversion to PNG."""

import os
import tempfile
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

WIDTH_PX = 900
DPI = 110
INK = "#1f2a37"
MUTED = "#64748b"
RULE = "#e2e8f0"
BAR = "#3b6ea5"
# People with any colour vision can distinguish them: they differ in lightness, not only in hue.
SEVERITY_COLOURS = {"critical": "#7a1144", "error": "#d9541e", "warning": "#f2b53c"}
SIGNAL_COLOURS = ("#2563a8", "#c2410c", "#0f766e", "#7a3e9d", "#9a6b00", "#475569")
_MISSING_GLYPH = "□"

type Figure = Any
type Axes = Any


def new_figure(height_px: int) -> Figure:
    """Return a new figure, made without pyplot, which keeps global state and is not thread-safe."""
    # On Lambda, only the temporary directory is writable. Matplotlib reads this variable before
    # it builds its font cache.
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "matplotlib"))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = MatplotlibFigure(
        figsize=(WIDTH_PX / DPI, height_px / DPI),
        dpi=DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.09),
    )
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG; equal figures give equal bytes."""
    from PIL import Image

    figure.canvas.draw()
    size = figure.canvas.get_width_height(physical=True)
    picture = Image.frombuffer("RGBA", size, figure.canvas.buffer_rgba()).convert("RGB")
    # A chart has few colours, so a palette reduces the file to a third of its size.
    reduced = picture.quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = BytesIO()
    reduced.save(buffer, format="png", dpi=(DPI, DPI))
    return buffer.getvalue()


def headline(figure: Figure, title: str) -> None:
    """Write the title of the chart, top left."""
    figure.suptitle(
        readable(title, 90),
        x=0.012,
        ha="left",
        fontsize=12.5,
        fontweight="bold",
        color=INK,
        parse_math=False,
    )


def clean(axes: Axes, *, grid: str = "y") -> None:
    """Remove the frame, and draw faint grid lines for the axis `grid`."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=MUTED)
    axes.grid(axis=grid, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)


def readable(text: str, limit: int, *, keep_end: bool = True) -> str:
    """Return text that the chart font can draw, cut to at most `limit` characters."""
    drawable = _drawable()
    shown = "".join(c if ord(c) in drawable else _MISSING_GLYPH for c in text)
    if len(shown) <= limit:
        return shown
    if not keep_end:
        return f"{shown[: limit - 1]}…"
    # Codes and file names differ most at their ends, so the text is cut in the middle.
    tail = limit // 3
    return f"{shown[: limit - tail - 1]}…{shown[-tail:]}"


@cache
def _drawable() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(code for code in get_font(findfont("DejaVu Sans")).get_charmap() if code > 31)


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the divisor and the name of the best unit for a duration in seconds."""
    if seconds <= 300:
        return 1.0, "s"
    return (60.0, "min") if seconds <= 3 * 3600 else (3600.0, "h")


def short(number: float) -> str:
    """Return a number in short form: 950, 12.3k or 4.6M."""
    if abs(number) < 10_000:
        return f"{number:,.0f}"
    scaled, suffix = (number / 1e6, "M") if abs(number) >= 999_500 else (number / 1e3, "k")
    digits = f"{scaled:.1f}" if abs(scaled) < 100 else f"{scaled:.0f}"
    return digits.removesuffix(".0") + suffix
