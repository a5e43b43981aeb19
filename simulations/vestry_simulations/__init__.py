"""The laboratory: both programs under one command, in worker processes, on virtual sites."""
