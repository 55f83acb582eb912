"""Where PlatformIO looks for SCons: the one that pip installed."""

from SCons.Script.Main import main

main()
