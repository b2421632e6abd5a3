/** The shells that `completion` supports. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** The hidden command that the scripts ask: the words so far are its arguments, the last the one to complete. */
export const ASKED = 'complete-words';

/**
 * The script by which a shell completes the words of `transship`. It runs the program at the beginning of the line, which prints a line for each
 * candidate: the word, a tab and its description, or two tabs at the end where the word goes on. The last line is `:`, or `:files` where names of
 * files fit too.
 */
export function scriptFor(shell: Shell): string {
  return SCRIPTS[shell];
}

const BASH = `# transship: completion for bash. To use it now: source <(transship completion bash)
_transship() {
  local line=\${COMP_LINE:0:COMP_POINT} words reply cut= current
  read -r -a words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  current=\${words[\${#words[@]}-1]}
  mapfile -t reply < <("\${words[0]}" ${ASKED} -- "\${words[@]:1}" 2>/dev/null)
  # bash replaces only what follows the last of its own breaks of words
  if [[ $COMP_WORDBREAKS == *:* && $current == *:* ]]; then cut=\${current%"\${current##*:}"}; fi
  if [[ $COMP_WORDBREAKS == *=* && \${current#"$cut"} == *=* ]]; then cut=\${current%"\${current##*=}"}; fi
  COMPREPLY=()
  local one word
  for one in "\${reply[@]}"; do
    case $one in
      :files) compopt -o default ;;
      :) compopt +o default ;;
      *)
        [[ $one == *$'\\t\\t' ]] && compopt -o nospace
        word=\${one%%$'\\t'*}
        COMPREPLY+=("\${word#"$cut"}")
        ;;
    esac
  done
}
complete -F _transship transship
`;

const ZSH = `#compdef transship
# transship: completion for zsh. To use it now: source <(transship completion zsh)
_transship() {
  local -a answer ends opens abouts openabouts
  local one word about
  answer=("\${(@f)$("\${words[1]}" ${ASKED} -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for one in "\${answer[@]}"; do
    [[ $one == :* || -z $one ]] && continue
    word=\${one%%$'\\t'*}
    about=\${\${one#*$'\\t'}%%$'\\t'*}
    [[ $one != *$'\\t'* ]] && about=
    if [[ $one == *$'\\t\\t' ]]; then
      opens+=("$word")
      openabouts+=("$word")
    else
      ends+=("$word")
      abouts+=("$word\${about:+  -- $about}")
    fi
  done
  (( $#ends )) && compadd -l -d abouts -a ends
  (( $#opens )) && compadd -S '' -d openabouts -a opens
  [[ \${answer[-1]} == :files ]] && _files
}
if [[ \${funcstack[1]} == _transship ]]; then _transship "$@"; else compdef _transship transship; fi
`;

const FISH = `# transship: completion for fish. To use it now: transship completion fish | source
function __transship_words
  set -l typed (commandline -opc) (commandline -ct)
  set -l answer ($typed[1] ${ASKED} -- $typed[2..-1] 2>/dev/null)
  for one in $answer
    switch $one
      case ':files'
        __fish_complete_path (commandline -ct)
      case ':'
      case '*'
        string replace -r '\\t+$' '' -- $one
    end
  end
end
complete -c transship -f -a '(__transship_words)'
`;

const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
