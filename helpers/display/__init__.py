"""What a reader sees: the figures' style, tables, panels, source listings, measured numbers. All chapters."""

from helpers.display import plots
from helpers.display.readings import measured
from helpers.display.source import Source, show_source
from helpers.display.tables import Table
from helpers.display.widgets import SweepPanel, dropdown, int_slider, power_slider, text_box

__all__ = [
    "Source",
    "SweepPanel",
    "Table",
    "dropdown",
    "int_slider",
    "measured",
    "plots",
    "power_slider",
    "show_source",
    "text_box",
]
