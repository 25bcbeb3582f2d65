"""The Python interface: run a host, publish, subscribe and process channels. People import it as `cubecast`."""
