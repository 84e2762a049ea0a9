"""Why a run went wrong: checks of what stages left and of the data they read (docs/doctor.md)."""
