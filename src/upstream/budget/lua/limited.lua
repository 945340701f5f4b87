-- The vendor asks for a pause. ARGV[4]: how long.
prune()
pause_for(tonumber(ARGV[4]))
say()
return {}
