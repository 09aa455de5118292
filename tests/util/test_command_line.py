"""How programs report what a user can mend."""

from util.command_line import MISTAKE, run_program


def test_a_folder_that_may_not_be_entered_is_named_in_a_line(capsys):
    def run() -> int:
        raise PermissionError(13, "Permission denied", "/private/clip.mp4")

    assert run_program("eval.py", run, "") == MISTAKE
    assert capsys.readouterr().err == "eval.py: /private/clip.mp4: Permission denied\n"
