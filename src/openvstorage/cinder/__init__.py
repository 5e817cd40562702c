"""The Cinder volume driver for Open vStorage vPools.

It runs inside cinder-volume and needs what is in that environment, ``requests`` included, and nothing else:

    [myvpool01]
    volume_driver = openvstorage.cinder.driver.OpenvStorageEdgeVolumeDriver
    volume_backend_name = myvpool01
    openvstorage_management_ips = 10.0.0.1, 10.0.0.2
    openvstorage_vpool_guid = 6f5f3c5e-...
    openvstorage_username = cinder
    openvstorage_password = ...
    openvstorage_ca_file = /etc/cinder/openvstorage-ca.pem
"""
