"""The operators of the ISP, one subject a file; `isp_env.pipeline` puts them in order.

Every operator takes ``(B, 3, H, W)`` float32 in a named colour space and one value an image, ``(B,)``, on
any device, leaves its inputs untouched, and is the identity at its neutral value. A *local* operator comes
as a pair: ``*_maps`` measures the whole image on a small grid, the operator itself takes those maps.
"""
