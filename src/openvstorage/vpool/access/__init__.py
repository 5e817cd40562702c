"""Who may do what: passwords, accounts, access tokens, the limit on logins, and the certificates of the service.

Nothing here knows of HTTP. Errors carry the management API's codes, so that the API only has to choose a status.
No secret is ever part of an error, a representation or a log line.
"""
