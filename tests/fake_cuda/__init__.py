"""A GPU that computes nothing: fake tensors on "cuda:0", in a CPU build of torch.

They show what a real one would refuse, or wait for: tensors on two devices, values that the host looks at, shapes that
depend on values. They show neither numbers nor speed.
"""
