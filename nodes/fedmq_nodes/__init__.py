"""An edge node: the joint between the federation core and the neural parts."""
