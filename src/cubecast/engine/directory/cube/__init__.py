"""The cube: which host has which seat, for how long, and what each is sent about its neighbours."""
