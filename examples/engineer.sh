# An engineer with crops in ./crops (PERSON/cCAMERA_TIME.jpg) and a checkpoint: a gallery, answers, a graph, and forgetting.
python -m mpanet_pl.embed ckpt=network.ckpt images=crops/visible out=people 'name="(?P<identity>\d+)/c(?P<camera>\d+)_(?P<time>\d+)"'
python -m mpanet_pl.search gallery=people queries=crops/infrared out=answers k=5      # open answers/sheet.html
python -m mpanet_pl.export ckpt=network.ckpt out=network.onnx   # a graph without PyTorch, threshold inside
python -m mpanet_pl.forget gallery=people camera=[1] report=forgotten.json
python -m mpanet_pl.serve gallery=people                                              # until Ctrl-C: http://127.0.0.1:8000
