# A student without data: people are drawn, a network is trained, a second one is compared with it.
python -m mpanet_pl.train run_dir=runs/first                                # open runs/first/index.html
python -m mpanet_pl.evaluate ckpt=runs/first/checkpoints/last.ckpt rank_list=worst run_dir=runs/worst   # whom does it mix up?
python -m mpanet_pl.train model.criterion.center_cluster=0 run_dir=runs/without   # the same without the centre-cluster loss
python -m mpanet_pl.compare runs/without runs/first --into comparison      # what the loss is worth, and whether that can be told
