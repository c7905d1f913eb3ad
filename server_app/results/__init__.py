"""Reading finished runs: tables, plots and report pages."""
