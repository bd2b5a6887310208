
# What runs, for the arguments that name it: keys, proxies, services, addresses, control sockets.
function __underpass_live
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    $words[1] complete -- $words[2..-1] "$current" 2>/dev/null
end
set -l __underpass_live_commands kill pause resume priority limit drain undrain kick weight policy ban unban attach
complete -c underpass -n "__fish_seen_subcommand_from $__underpass_live_commands" -f -k -a "(__underpass_live)"
complete -c underpass -n "__fish_seen_subcommand_from $__underpass_live_commands ps top events reload shutdown unblock" -l control -x -a "(__underpass_live)"
