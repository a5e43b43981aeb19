"""Who may use the link, and how the directory of identities changes."""
