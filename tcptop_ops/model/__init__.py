"""What the data is: dtypes, enums, snapshots and flows. Imports numpy and nothing else of this package."""
