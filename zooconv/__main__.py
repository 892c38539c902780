from zooconv.cli.app import main

main()
