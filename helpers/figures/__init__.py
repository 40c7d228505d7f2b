"""Pictures and tables of what the other packages compute. All chapters."""

from helpers.figures.compression import draw_channels, draw_grids, draw_over_rows, draw_quality
from helpers.figures.io import draw_needs, draw_over_length, draw_traffic
from helpers.figures.launches import draw_buckets, draw_calls, draw_held, draw_time_lines
from helpers.figures.page_map import PageMap
from helpers.figures.pages import draw_history, draw_pages, draw_shares, request_colors
from helpers.figures.parallel import draw_cuts, draw_messages, draw_parts, draw_slots
from helpers.figures.passes import Bar, Chart, chart, draw_gantt
from helpers.figures.radix_tree import draw_tree
from helpers.figures.reports import COLUMNS, comparison, seconds_text
from helpers.figures.rooflines import Point, roofline
from helpers.figures.rows import draw_rows
from helpers.figures.schedules import draw_curves, draw_percentiles, draw_predictions
from helpers.figures.serving.lanes import Span, draw_lanes
from helpers.figures.serving.replica_loads import draw_loads
from helpers.figures.tiles import draw_steps, draw_tiles, known_weights

__all__ = [
    "COLUMNS",
    "Bar",
    "Chart",
    "PageMap",
    "Point",
    "Span",
    "chart",
    "comparison",
    "draw_buckets",
    "draw_calls",
    "draw_channels",
    "draw_curves",
    "draw_cuts",
    "draw_gantt",
    "draw_grids",
    "draw_held",
    "draw_history",
    "draw_lanes",
    "draw_loads",
    "draw_messages",
    "draw_needs",
    "draw_over_length",
    "draw_over_rows",
    "draw_pages",
    "draw_parts",
    "draw_percentiles",
    "draw_predictions",
    "draw_quality",
    "draw_rows",
    "draw_shares",
    "draw_slots",
    "draw_steps",
    "draw_tiles",
    "draw_time_lines",
    "draw_traffic",
    "draw_tree",
    "known_weights",
    "request_colors",
    "roofline",
    "seconds_text",
]
