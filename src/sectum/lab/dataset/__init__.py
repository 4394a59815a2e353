"""The dataset of measured networks: campaigns, storage, operator campaigns."""
