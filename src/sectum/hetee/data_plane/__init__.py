"""What a client and its worker say to each other: streams, tensors, messages, receipts. No controller imports it."""
