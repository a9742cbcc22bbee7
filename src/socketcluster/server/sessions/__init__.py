"""Sessions: stock clients whose next connection receives what the former one did not confirm."""
