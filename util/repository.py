"""The program's own folder, and which version of it this is."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def git_commit(folder: Path = REPOSITORY) -> str:
    """The commit of a repository, with "+changes" where its files differ from it; or why there is none."""
    try:
        import git  # fails on import where there is no git program
    except ModuleNotFoundError:
        return "unknown: GitPython is not installed"
    except ImportError:
        return "unknown: there is no git program"
    try:
        repository = git.Repo(folder)
        return repository.head.commit.hexsha + ("+changes" if repository.is_dirty() else "")
    except git.InvalidGitRepositoryError:
        return "unknown: the program does not lie in a git repository"
    except (git.GitError, ValueError, OSError) as error:  # no commit yet, a repository of another user's, …
        return f"unknown: {' '.join(str(error).split())}"
