"""What A1111 reads before it starts: our command-line option."""


def preload(parser):
    parser.add_argument(
        "--zit-native-cache",
        action="store_true",
        help="zit_ext: keep the results of txt2img, and find them again (for servers without a page)",
    )
