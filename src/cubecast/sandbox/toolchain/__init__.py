"""Tools for authors of extensions: create, build and check an extension."""
