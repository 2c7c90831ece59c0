from hydra.plugins.search_path_plugin import SearchPathPlugin


class StripesPath(SearchPathPlugin):
    def manipulate_search_path(self, search_path):
        search_path.append("stripes", "pkg://stripes.conf")
