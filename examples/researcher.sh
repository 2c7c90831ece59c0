# A researcher with SYSU-MM01 in ./SYSU-MM01, from the check of the files to a row beside the paper's.
python -m mpanet_pl.prepare dataset=sysu data_dir=SYSU-MM01                 # counts, permutations, damaged images
python -m mpanet_pl.train dataset=sysu data_dir=SYSU-MM01 run_dir=runs/mpanet           # the paper's recipe
python -m mpanet_pl.train dataset=sysu data_dir=SYSU-MM01 method=saai run_dir=runs/saai # another method, by its own recipe
python -m mpanet_pl.evaluate ckpt=runs/mpanet/checkpoints/last.ckpt rerank=k_reciprocal save_features=mpanet.npz run_dir=runs/reranked
python -m mpanet_pl.compare runs/saai runs/mpanet --into comparison         # comparison/comparison.tex is for the paper
python -m mpanet_pl.evaluate features=mpanet.npz run_dir=runs/again        # what others do with the features that you hand out
