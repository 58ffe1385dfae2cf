"""The command line. Nothing is imported here: the loader of the BPF program is started before numpy is imported."""
