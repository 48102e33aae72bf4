# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_coftctl_global_optspecs
    string join \n bus= json classifier= h/help V/version
end

function __fish_coftctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_coftctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_coftctl_using_subcommand
    set -l cmd (__fish_coftctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c coftctl -n "__fish_coftctl_needs_command" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_needs_command" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_needs_command" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_needs_command" -s V -l version -d 'Print version'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "status" -d 'Show what the service serves, watches and does'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "classifier" -d 'Look at the classifiers that the service has; make, change and remove some'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "source" -d 'Look at the directories that are watched; add and remove some'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "classify" -d 'Say what images show'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "round" -d 'Start, stop and look at adaptation rounds'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "job" -d 'Look at all jobs and stop them: rounds, zero-shot jobs, imports and activations'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "generation" -d 'Look at the models that jobs have made, and go back to an earlier one'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "export" -d 'Copy a generation out of the service, for other programs to serve'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "import" -d 'Have the service take in a generation that was exported elsewhere, and show how far it is'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "results" -d 'Show what the pictures of the sources show: the latest ones, the oldest of them first'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "monitor" -d 'Show everything that happens, a line each, until Ctrl-C: answers, states, jobs, generations, reviews, problems'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "metrics" -d 'Print what is measured, as Prometheus reads it: pictures, answers, states, rounds, generations, disk, memory'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "review" -d 'Say what a few pictures show, where the service cannot know which of two models is better'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "model" -d 'Get, check and remove pretrained CLIP models; needs no running service'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "rescan" -d 'Have every watched directory looked at again'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "doctor" -d 'Look for what keeps the service from working, and say what to type'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "lint" -d 'Look for names of classes that a model may not understand'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "config" -d 'Check the configuration; needs no running service'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "reload" -d 'Have the service read its configuration again, without a restart'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "completions" -d 'Print the completion script of a shell'
complete -c coftctl -n "__fish_coftctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand status" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand status" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand status" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -f -a "list" -d 'List the classifiers; --classifier NAME has every other command ask one of them'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -f -a "show" -d 'Show what one serves, watches and does; the same as status --classifier NAME'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -f -a "create" -d 'Make a classifier, which serves within seconds and learns from what it watches'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -f -a "edit" -d 'Give a classifier other classes'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -f -a "remove" -d 'Stop a classifier and remove its file'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and not __fish_seen_subcommand_from list show create edit remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from list" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from list" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from list" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from show" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from show" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from show" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from create" -l labels -d 'Its classes: a file with one name a line, or the names with commas between them [default: the model\'s own]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from create" -l watch -d 'Directory whose images it answers and learns from; may be given several times' -r -F
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from create" -l model -d 'Name or digest of a model of the store (coftctl model list), or a directory [default: the demo model]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from create" -l template -d 'Prompt of the zero-shot labels; {} stands for the name of the class' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from create" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from create" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from create" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from edit" -l labels -d 'Its classes: a file with one name a line, or the names with commas between them' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from edit" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from edit" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from edit" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from edit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from remove" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from remove" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from remove" -l purge -d 'Remove all that was kept for it as well: images, answers, generations'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from remove" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the classifiers; --classifier NAME has every other command ask one of them'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show what one serves, watches and does; the same as status --classifier NAME'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from help" -f -a "create" -d 'Make a classifier, which serves within seconds and learns from what it watches'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from help" -f -a "edit" -d 'Give a classifier other classes'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Stop a classifier and remove its file'
complete -c coftctl -n "__fish_coftctl_using_subcommand classifier; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and not __fish_seen_subcommand_from list add remove help" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and not __fish_seen_subcommand_from list add remove help" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and not __fish_seen_subcommand_from list add remove help" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and not __fish_seen_subcommand_from list add remove help" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and not __fish_seen_subcommand_from list add remove help" -f -a "list" -d 'List the watched directories'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and not __fish_seen_subcommand_from list add remove help" -f -a "add" -d 'Have a classifier watch a directory more'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and not __fish_seen_subcommand_from list add remove help" -f -a "remove" -d 'Have a classifier watch a directory no more; its images have no part in rounds from then on'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and not __fish_seen_subcommand_from list add remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from list" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from list" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from list" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from add" -l name -d 'What it is called [default: its directory]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from add" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from add" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from add" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from remove" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from remove" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from remove" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the watched directories'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from help" -f -a "add" -d 'Have a classifier watch a directory more'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Have a classifier watch a directory no more; its images have no part in rounds from then on'
complete -c coftctl -n "__fish_coftctl_using_subcommand source; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand classify" -l top-k -d 'Labels to print for each image, the likeliest first' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classify" -l threshold -d 'Leave out labels that are less probable, 0 to 1' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classify" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classify" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand classify" -s r -l recursive -d 'Take directories too, with every image file below them (.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff, .gif, .qoi, .heic, .heif, .avif)'
complete -c coftctl -n "__fish_coftctl_using_subcommand classify" -l embedding -d 'Print the image\'s embedding too; needs --json'
complete -c coftctl -n "__fish_coftctl_using_subcommand classify" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand classify" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -f -a "start" -d 'Start a round over the images catalogued so far'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -f -a "wait" -d 'Stay until a job has ended and show how far it is; Ctrl-C leaves it running'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -f -a "cancel" -d 'Stop a running job; the active model stays'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -f -a "list" -d 'List the jobs, the oldest first'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -f -a "show" -d 'Show a job'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and not __fish_seen_subcommand_from start wait cancel list show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from start" -l seed -d 'Seed for the round\'s random choices, in place of the configured one' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from start" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from start" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from start" -l wait -d 'Stay until the round has ended and show how far it is; Ctrl-C leaves the round running'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from start" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from wait" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from wait" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from wait" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from wait" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from cancel" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from cancel" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from cancel" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from list" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from list" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from list" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from show" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from show" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from show" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from help" -f -a "start" -d 'Start a round over the images catalogued so far'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from help" -f -a "wait" -d 'Stay until a job has ended and show how far it is; Ctrl-C leaves it running'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from help" -f -a "cancel" -d 'Stop a running job; the active model stays'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the jobs, the oldest first'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show a job'
complete -c coftctl -n "__fish_coftctl_using_subcommand round; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -f -a "wait" -d 'Stay until a job has ended and show how far it is; Ctrl-C leaves it running'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -f -a "cancel" -d 'Stop a running job; the active model stays'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -f -a "list" -d 'List the jobs, the oldest first'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -f -a "show" -d 'Show a job'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and not __fish_seen_subcommand_from wait cancel list show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from wait" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from wait" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from wait" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from wait" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from cancel" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from cancel" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from cancel" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from list" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from list" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from list" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from show" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from show" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from show" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from help" -f -a "wait" -d 'Stay until a job has ended and show how far it is; Ctrl-C leaves it running'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from help" -f -a "cancel" -d 'Stop a running job; the active model stays'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the jobs, the oldest first'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show a job'
complete -c coftctl -n "__fish_coftctl_using_subcommand job; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -f -a "list" -d 'List the generations, the oldest first; the active one is marked, and those that the rules refused'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -f -a "show" -d 'Show what the round that made a generation saw: its candidates, what speaks for each, and every class'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -f -a "activate" -d 'Have an earlier generation serve again, or one that the rules refused, and show how far it is'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -f -a "diff" -d 'Show what another generation says otherwise of the latest pictures'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and not __fish_seen_subcommand_from list show activate diff help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from list" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from list" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from list" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from show" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from show" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from show" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from activate" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from activate" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from activate" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from activate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from diff" -l limit -d 'Pictures to show of each kind' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from diff" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from diff" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from diff" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the generations, the oldest first; the active one is marked, and those that the rules refused'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show what the round that made a generation saw: its candidates, what speaks for each, and every class'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from help" -f -a "activate" -d 'Have an earlier generation serve again, or one that the rules refused, and show how far it is'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from help" -f -a "diff" -d 'Show what another generation says otherwise of the latest pictures'
complete -c coftctl -n "__fish_coftctl_using_subcommand generation; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand export" -l format -r -f -a "onnx\t'The ONNX model with its weights, labels, manifest, report and probe'
triton\t'A model repository of Triton, which OpenVINO Model Server reads too'
oci\t'An OCI image layout with that repository below /models'"
complete -c coftctl -n "__fish_coftctl_using_subcommand export" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand export" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand export" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand import" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand import" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand import" -l force -d 'Let it serve whatever it answers on the service\'s own images; everything else is checked all the same'
complete -c coftctl -n "__fish_coftctl_using_subcommand import" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l source -d 'Source to ask about, by its name or directory or by its number [default: all of them]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l label -d 'Pictures with this label alone' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l since -d 'Pictures alone that have come within this time, as 30m, 2h or 3d' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l limit -d 'Pictures to show at most, the latest [default: 20; with --follow none but those that come]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l doubtful -d 'Pictures alone that a person should look at'
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l changed -d 'Pictures alone that another generation has answered and of which the active one says otherwise'
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l follow -d 'Go on with those that come, until Ctrl-C, also over a restart of the service; with --json a line each'
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l summary -d 'Count them by label and hour instead [default: of the last 24 hours]'
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand results" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand monitor" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand monitor" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand monitor" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand monitor" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand metrics" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand metrics" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand metrics" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand review" -l answer -d 'Say what pictures show, for scripts: the id of an image that coftctl review --json lists, and the name of its class; IMAGE= without a name says that it shows none of them, or cannot be told' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand review" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand review" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand review" -l decide -d 'Ask here what the pictures show, one after the other, until it is decided; every answer is kept at once'
complete -c coftctl -n "__fish_coftctl_using_subcommand review" -l undo -d 'Take the last answer back; its picture is asked about again'
complete -c coftctl -n "__fish_coftctl_using_subcommand review" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand review" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -l store -d 'Directory of the store: models/ in the service\'s state directory' -r -F
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -f -a "list" -d 'List the models of the store'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -f -a "info" -d 'Show what a model is: layout, sizes, preprocessing, digests'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -f -a "verify" -d 'Read every file of a model and hold it against its digest'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -f -a "import" -d 'Copy a model from a directory into the store'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -f -a "pull" -d 'Download a model from the Hugging Face hub, or what HF_ENDPOINT names; an interrupted download goes on where it was'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -f -a "remove" -d 'Remove a model and its names'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and not __fish_seen_subcommand_from list info verify import pull remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from list" -l store -d 'Directory of the store: models/ in the service\'s state directory' -r -F
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from list" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from list" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from list" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from info" -l store -d 'Directory of the store: models/ in the service\'s state directory' -r -F
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from info" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from info" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from info" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from info" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from verify" -l store -d 'Directory of the store: models/ in the service\'s state directory' -r -F
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from verify" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from verify" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from verify" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from import" -l name -d 'Name for it [default: that of the directory, or of the file]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from import" -l store -d 'Directory of the store: models/ in the service\'s state directory' -r -F
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from import" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from import" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from import" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from pull" -l name -d 'Name for it [default: the repository\'s, without its owner]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from pull" -l store -d 'Directory of the store: models/ in the service\'s state directory' -r -F
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from pull" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from pull" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from pull" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from remove" -l store -d 'Directory of the store: models/ in the service\'s state directory' -r -F
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from remove" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from remove" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from remove" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the models of the store'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from help" -f -a "info" -d 'Show what a model is: layout, sizes, preprocessing, digests'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Read every file of a model and hold it against its digest'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from help" -f -a "import" -d 'Copy a model from a directory into the store'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from help" -f -a "pull" -d 'Download a model from the Hugging Face hub, or what HF_ENDPOINT names; an interrupted download goes on where it was'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Remove a model and its names'
complete -c coftctl -n "__fish_coftctl_using_subcommand model; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand rescan" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand rescan" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand rescan" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand rescan" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand doctor" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand doctor" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand doctor" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand lint" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand lint" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand lint" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand lint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and not __fish_seen_subcommand_from check help" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and not __fish_seen_subcommand_from check help" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and not __fish_seen_subcommand_from check help" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and not __fish_seen_subcommand_from check help" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and not __fish_seen_subcommand_from check help" -f -a "check" -d 'Read a configuration and every file that it names, and say what is wrong and where'
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and not __fish_seen_subcommand_from check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and __fish_seen_subcommand_from check" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and __fish_seen_subcommand_from check" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and __fish_seen_subcommand_from check" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "check" -d 'Read a configuration and every file that it names, and say what is wrong and where'
complete -c coftctl -n "__fish_coftctl_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand reload" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand reload" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand reload" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c coftctl -n "__fish_coftctl_using_subcommand completions" -l bus -d 'Bus to look for the service on: system, session or a D-Bus address' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand completions" -l classifier -d 'Classifier to ask [default: the only one there is, or "default"]' -r
complete -c coftctl -n "__fish_coftctl_using_subcommand completions" -l json -d 'Print JSON instead of text'
complete -c coftctl -n "__fish_coftctl_using_subcommand completions" -s h -l help -d 'Print help'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "status" -d 'Show what the service serves, watches and does'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "classifier" -d 'Look at the classifiers that the service has; make, change and remove some'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "source" -d 'Look at the directories that are watched; add and remove some'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "classify" -d 'Say what images show'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "round" -d 'Start, stop and look at adaptation rounds'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "job" -d 'Look at all jobs and stop them: rounds, zero-shot jobs, imports and activations'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "generation" -d 'Look at the models that jobs have made, and go back to an earlier one'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "export" -d 'Copy a generation out of the service, for other programs to serve'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "import" -d 'Have the service take in a generation that was exported elsewhere, and show how far it is'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "results" -d 'Show what the pictures of the sources show: the latest ones, the oldest of them first'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "monitor" -d 'Show everything that happens, a line each, until Ctrl-C: answers, states, jobs, generations, reviews, problems'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "metrics" -d 'Print what is measured, as Prometheus reads it: pictures, answers, states, rounds, generations, disk, memory'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "review" -d 'Say what a few pictures show, where the service cannot know which of two models is better'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "model" -d 'Get, check and remove pretrained CLIP models; needs no running service'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "rescan" -d 'Have every watched directory looked at again'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "doctor" -d 'Look for what keeps the service from working, and say what to type'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "lint" -d 'Look for names of classes that a model may not understand'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "config" -d 'Check the configuration; needs no running service'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "reload" -d 'Have the service read its configuration again, without a restart'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "completions" -d 'Print the completion script of a shell'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and not __fish_seen_subcommand_from status classifier source classify round job generation export import results monitor metrics review model rescan doctor lint config reload completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from classifier" -f -a "list" -d 'List the classifiers; --classifier NAME has every other command ask one of them'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from classifier" -f -a "show" -d 'Show what one serves, watches and does; the same as status --classifier NAME'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from classifier" -f -a "create" -d 'Make a classifier, which serves within seconds and learns from what it watches'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from classifier" -f -a "edit" -d 'Give a classifier other classes'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from classifier" -f -a "remove" -d 'Stop a classifier and remove its file'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from source" -f -a "list" -d 'List the watched directories'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from source" -f -a "add" -d 'Have a classifier watch a directory more'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from source" -f -a "remove" -d 'Have a classifier watch a directory no more; its images have no part in rounds from then on'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from round" -f -a "start" -d 'Start a round over the images catalogued so far'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from round" -f -a "wait" -d 'Stay until a job has ended and show how far it is; Ctrl-C leaves it running'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from round" -f -a "cancel" -d 'Stop a running job; the active model stays'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from round" -f -a "list" -d 'List the jobs, the oldest first'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from round" -f -a "show" -d 'Show a job'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from job" -f -a "wait" -d 'Stay until a job has ended and show how far it is; Ctrl-C leaves it running'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from job" -f -a "cancel" -d 'Stop a running job; the active model stays'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from job" -f -a "list" -d 'List the jobs, the oldest first'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from job" -f -a "show" -d 'Show a job'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from generation" -f -a "list" -d 'List the generations, the oldest first; the active one is marked, and those that the rules refused'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from generation" -f -a "show" -d 'Show what the round that made a generation saw: its candidates, what speaks for each, and every class'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from generation" -f -a "activate" -d 'Have an earlier generation serve again, or one that the rules refused, and show how far it is'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from generation" -f -a "diff" -d 'Show what another generation says otherwise of the latest pictures'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from model" -f -a "list" -d 'List the models of the store'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from model" -f -a "info" -d 'Show what a model is: layout, sizes, preprocessing, digests'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from model" -f -a "verify" -d 'Read every file of a model and hold it against its digest'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from model" -f -a "import" -d 'Copy a model from a directory into the store'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from model" -f -a "pull" -d 'Download a model from the Hugging Face hub, or what HF_ENDPOINT names; an interrupted download goes on where it was'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from model" -f -a "remove" -d 'Remove a model and its names'
complete -c coftctl -n "__fish_coftctl_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "check" -d 'Read a configuration and every file that it names, and say what is wrong and where'
