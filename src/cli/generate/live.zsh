# What runs, for the arguments that name it: keys, proxies, services, addresses, control sockets.
_underpass() {
    local -a live
    local candidate
    if (( CURRENT > 2 )); then
        for candidate in "${(@f)$(${words[1]} complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
            [[ -n $candidate ]] && live+=("${${candidate%%$'\t'*}//:/\\:}:${candidate#*$'\t'}")
        done
    fi
    if (( $#live )); then
        _describe -t running 'running' live
    else
        _underpass_static "$@"
    fi
}

