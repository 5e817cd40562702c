"""os-brick: how Cinder's own processes open a volume (backup, migration between backends, upload to Glance).

os-brick has no extension point but a live table of connectors, to which :mod:`openvstorage.brick.registration` adds
ours; no file of os-brick is changed. cinder-volume registers when it imports our driver. cinder-backup never imports
it, so it is started by ``openvstorage-cinder-backup``, which registers and then runs the stock service.
"""
