"""For authors: begin an extension, build it, check it."""
