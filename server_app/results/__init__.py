"""Reading finished runs: tables, plots, pages."""
