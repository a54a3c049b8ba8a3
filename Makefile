# Everything runs against a library of its own, .lib: dependencies that are missing go there, and so does the package.
# Neither R's libraries nor the user's are changed. (System packages are, by tools/install.R, where root has apt-get.)

PACKAGE := vecchiann
RSCRIPT ?= Rscript
SOURCES := DESCRIPTION NAMESPACE $(shell find R src man inst -type f ! -name '*.o' ! -name '*.so' 2>/dev/null)
INSTALLED := .lib/$(PACKAGE).installed

export R_LIBS := $(CURDIR)/.lib:$(R_LIBS)

.PHONY: help install demo check suggested lint document document-check package-check check-variants coverage site \
  fuzz sanitize sanitize-short nightly bench format clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

demo: $(INSTALLED) ## install what is missing and run the examples on real data (GPGP=1: GpGp's Argo floats too)
	$(if $(GPGP),$(RSCRIPT) tools/install.R GpGp maps)
	$(RSCRIPT) inst/examples/volcano.R
	$(RSCRIPT) inst/examples/vif.R

install: ## install for yourself, vignettes included
	R CMD build . && R CMD INSTALL $(PACKAGE)_*.tar.gz && rm -f $(PACKAGE)_*.tar.gz

check: $(INSTALLED) ## install what is missing and run all tests
	@$(RSCRIPT) tools/install.R testthat
	@$(RSCRIPT) tools/test.R

suggested: | .lib ## install the suggested packages, for the tests that use them (not arrow and gpboost)
	@$(RSCRIPT) tools/install.R --suggested

lint: | .lib ## the house rules that a script can check
	@$(RSCRIPT) tools/install.R codetools
	@$(RSCRIPT) tools/lint.R

document: | .lib ## rewrite NAMESPACE and man/ with roxygen2
	@$(RSCRIPT) tools/install.R roxygen2
	@$(RSCRIPT) tools/document.R

document-check: | .lib ## are NAMESPACE and man/ up to date?
	@$(RSCRIPT) tools/install.R roxygen2
	@$(RSCRIPT) tools/document.R --check

package-check: | .lib ## R CMD build and R CMD check
	@$(RSCRIPT) tools/install.R knitr rmarkdown
	@$(RSCRIPT) tools/check.R

fuzz: $(INSTALLED) ## 2,000 adversarial cases: damaged objects and hostile calls
	@$(RSCRIPT) tools/fuzz.R objects 1000 1 120
	@$(RSCRIPT) tools/fuzz.R calls 1000 1 120

sanitize: $(INSTALLED) ## the core under sanitizers, valgrind and gctorture, all tests included
	@$(RSCRIPT) tools/install.R testthat program:valgrind
	@$(RSCRIPT) tools/sanitize.R long

sanitize-short: $(INSTALLED) ## the same in two minutes
	@$(RSCRIPT) tools/install.R program:valgrind
	@$(RSCRIPT) tools/sanitize.R short

nightly: $(INSTALLED) ## 100,000 adversarial cases, and more, in an hour or two; the result is docs/nightly.md
	@$(RSCRIPT) tools/install.R program:clang
	@$(RSCRIPT) tools/nightly.R

check-variants: | .lib ## as CRAN, other compilers, locales, no OpenMP, no suggested packages (VARIANTS="clang latin1")
	@$(RSCRIPT) tools/install.R testthat knitr rmarkdown
	@$(RSCRIPT) tools/check_variants.R $(VARIANTS)

coverage: | .lib ## percentage of the lines of R and C that the tests run
	@$(RSCRIPT) tools/install.R covr testthat
	@$(RSCRIPT) tools/coverage.R

site: | .lib ## the documents as a web site, in docs/site
	@$(RSCRIPT) tools/install.R pkgdown
	@$(RSCRIPT) tools/site.R

bench: $(INSTALLED) ## the benchmarks
	@for script in bench/*.R; do $(RSCRIPT) $$script || exit 1; done

format: ## clang-format the C sources
	clang-format -i src/*/*.c src/*/*.h

clean: ## remove the installed package, compiled code and check results; dependencies stay
	rm -rf .check .check-variants docs/site .sanitize .fuzz .lib/$(PACKAGE) $(INSTALLED) .lib/tests src/*.o src/*/*.o src/*.so

.lib:
	@mkdir -p .lib

# Compiled from scratch every time, because R's rules do not know which header an object file came from.
$(INSTALLED): $(SOURCES) | .lib
	@$(RSCRIPT) tools/install.R
	R CMD INSTALL --preclean --clean --library=.lib .
	@touch $@
