"""What is asked of this host beside its sockets: namespaces, owners, processes, privilege."""
