"""The systems under test. These run in environments of their own and import little."""
