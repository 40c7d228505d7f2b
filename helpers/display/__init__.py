"""What a reader sees: the figures' style, tables, panels, source listings, measured numbers. All chapters."""

from helpers.display import plots
from helpers.display.progress import ProgressBar, shown_bar, with_bar
from helpers.display.readings import measured
from helpers.display.source import Source, show_kernel, show_source
from helpers.display.tables import Table
from helpers.display.tick_labels import STRICT_FIGURES, overlapping_labels
from helpers.display.widgets import SweepPanel, dropdown, int_slider, power_slider, text_box
from helpers.display.wrapping import LISTING_COLUMNS, wrapped

__all__ = [
    "LISTING_COLUMNS",
    "STRICT_FIGURES",
    "ProgressBar",
    "Source",
    "SweepPanel",
    "Table",
    "dropdown",
    "int_slider",
    "measured",
    "overlapping_labels",
    "plots",
    "power_slider",
    "show_kernel",
    "show_source",
    "shown_bar",
    "text_box",
    "with_bar",
    "wrapped",
]
