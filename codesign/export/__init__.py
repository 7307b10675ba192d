"""Launch configurations of a plan, a module a framework: `codesign.export.launch.export` writes one."""
