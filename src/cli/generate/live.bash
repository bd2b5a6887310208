
# What runs, for the arguments that name it: keys, proxies, services, addresses, control sockets.
_underpass_live() {
    local line=${COMP_LINE:0:COMP_POINT} words found current before IFS=$' \t\n'
    # Not COMP_WORDS, which is split at the colons of keys.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    if ((${#words[@]} > 2)); then
        current=${words[${#words[@]} - 1]}
        IFS=$'\n'
        found=($("$1" complete -- "${words[@]:1}" 2>/dev/null | cut -f 1))
        IFS=$' \t\n'
        if ((${#found[@]} > 0)); then
            # Only what is behind the last colon is replaced.
            before=
            [[ $current == *:* && $COMP_WORDBREAKS == *:* ]] && before=${current%"${current##*:}"}
            COMPREPLY=("${found[@]:0}")
            [[ -z $before ]] || COMPREPLY=("${found[@]#"${found[0]:0:${#before}}"}")
            return 0
        fi
    fi
    _underpass "$@"
}
