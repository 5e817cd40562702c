"""Nova: instances on vPool volumes, in a stock nova-compute with this package installed beside it.

Nova has no extension point for volume drivers, but a table of them that lives as long as the process, and it loads the
plug-ins of os-vif before its compute driver exists. :mod:`openvstorage.nova.plugin` is such a plug-in: it plugs no
network interfaces, it adds our driver to that table. No file of Nova is changed, and nova.conf needs no setting.

Nova 34 runs native threads and does not survive the import of eventlet, so nothing here imports Cinder.
"""
