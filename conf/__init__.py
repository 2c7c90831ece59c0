"""The configurations, as a package: `pkg://mpanet_pl.conf`, `hydra.initialize_config_module("mpanet_pl.conf")`."""
