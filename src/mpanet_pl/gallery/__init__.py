"""A trained network in use: images become embeddings, embeddings a gallery that is searched, served, exported."""
