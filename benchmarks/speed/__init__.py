r"""Speed: what fitting, sampling and mixing take, each beside the least that it could, or beside a peer."""
