"""Other people's methods on this package's sockets, a file each, by the name that `method=NAME` has."""
