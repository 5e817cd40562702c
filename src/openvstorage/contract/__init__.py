"""What both sides of the management API say: the words that the service puts into answers and clients look for.

Standard library only. The service and the library both import it, and it imports neither.
"""
