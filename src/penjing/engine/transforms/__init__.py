"""What a weight passes through on its way into the forward pass: configs and state."""
