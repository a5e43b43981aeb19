"""What is learned: one file for each kind of data, and the door for third parties' tasks."""
