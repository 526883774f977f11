"""The programs of a cluster: where they are found, and how they are fetched or built when they are not there."""
