"""The commands, one file each. They import the other rooms only when they run, so that help is instant."""
