"""What to do with a run plan: how sure its loss is, when it ends, launch now or wait, which smaller runs to do first."""
