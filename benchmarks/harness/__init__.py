"""What every benchmark needs: environments, systems under test, process accounting, reports."""
