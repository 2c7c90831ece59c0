"""Methods that are not MPANet: a file each, through the sockets of `mpanet_pl.interfaces`, named by `conf/method`."""
